import io

from PIL import Image

from gossamer_rl.config import Config
from gossamer_rl.gridworlds.stock import stock
from gossamer_rl.play import Options, main, picture
from gossamer_rl.train import train

TINY = Config(steps=96, copies=2, horizon=8, width=8, epochs=1, minibatch=8)


def test_the_picture_has_every_cell_and_the_agent():
    environment = stock("MiniGrid-DoorKey-5x5-v0")
    environment.reset(seed=0)
    lines = picture(environment).plain.splitlines()
    assert len(lines) == 5 and all(len(line) == 10 for line in lines)
    assert lines[0] == "██" * 5 and sum(line.count(mark) for line in lines for mark in "▶▼◀▲") == 1
    assert sum(line.count("▣") for line in lines) == sum(line.count("◎") for line in lines) == 1


def test_an_episode_is_shown_and_filmed(tmp_path, capsys):
    path = tmp_path / "policy.gossamer"
    train(Config(**{**vars(TINY), "save": path}))
    main(Options(path, seed=3))
    assert "after 250 steps" in capsys.readouterr().out or path.exists()
    main(Options(path, seed=3, gif=tmp_path / "episode.gif"))
    film = Image.open(io.BytesIO((tmp_path / "episode.gif").read_bytes()))
    assert film.n_frames > 1 and "episode.gif" in capsys.readouterr().out
