"""The intrinsic rewards by name."""

from gossamer_rl.curiosity import E3B, RIDE, RND, NovelD
from gossamer_rl.deir import DEIR
from gossamer_rl.exploration import Count, EpisodicCount, FirstVisit, LifelongFirstVisit
from gossamer_rl.icm import ICM
from gossamer_rl.ngu import NGU
from gossamer_rl.situations import Situation, ViewAndSituation

BONUSES: dict[str, type[FirstVisit]] = {
    "lifelong-first-visit": LifelongFirstVisit,
    "situation": Situation,
    "view-and-situation": ViewAndSituation,
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
