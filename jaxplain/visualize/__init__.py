"""Pictures of explanation maps: heat maps, overlays, panels, figures, curves, animations, and files of them.

Every function takes a batch of maps, ``(N, H, W)``, or of attributions with channels, ``(N, H, W, C)``, whose
channels are summed; for another choice, reduce them with `jaxplain.heatmap` first. Each map is divided by a high
percentile of its absolute values, so that a single bright pixel does not darken the rest, and clipped. Maps with
negative values are *signed* and get a diverging colour map centred at zero, the others a sequential one that
starts there.

What was computed is what is shown: values are coloured at the map's own pixels, and enlarged by repeating these.
"""

from ._animation import animation
from ._colours import colorize
from ._curve import curve
from ._figure import figure
from ._files import save
from ._overlay import overlay
from ._panel import panel

__all__ = ["animation", "colorize", "curve", "figure", "overlay", "panel", "save"]
