"""The intrinsic rewards by name."""

from gossamer_rl.curiosity import E3B, RIDE, RND, NovelD
from gossamer_rl.deir import DEIR
from gossamer_rl.exploration import Count, EpisodicCount, FirstVisit, LifelongFirstVisit
from gossamer_rl.icm import ICM
from gossamer_rl.ngu import NGU

BONUSES: dict[str, type[FirstVisit]] = {
    "lifelong-first-visit": LifelongFirstVisit,
    "first-visit": FirstVisit,
    "episodic-count": EpisodicCount,
    "count": Count,
    "rnd": RND,
    "noveld": NovelD,
    "ride": RIDE,
    "e3b": E3B,
    "icm": ICM,
    "ngu": NGU,
    "deir": DEIR,
}
