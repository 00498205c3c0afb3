"""Tests with the compiler's own settings, at shapes that users have: ``JAXPLAIN_XLA=default pytest tests/compiled``."""
