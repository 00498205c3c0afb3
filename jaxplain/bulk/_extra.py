"""The packages of the extra ``bulk``, or how they are installed."""

from __future__ import annotations

try:
    import grain as grain
    import tensorstore as tensorstore
    from absl import flags as flags
except ImportError as error:
    raise ImportError(f"jaxplain.bulk needs {error.name}: pip install 'jaxplain[bulk]'") from None
