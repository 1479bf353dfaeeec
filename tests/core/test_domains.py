import dataclasses
import importlib

import pytest

import gossamer as gs
from gossamer import domains, runs


def test_the_installed_domains_are_found_with_their_packages(toy):
    assert {"toy", "lost", "vision", "nlp", "speech", "rl"} <= set(domains.names())
    assert domains.package("toy") == "gossamer_toy"
    assert domains.load("toy").METRIC == "luck"
    assert domains.preset("toy").sparsity == 0.9 and domains.preset("toy", "rare").sparsity == 0.99


def test_what_is_not_there_is_named_with_the_nearest(toy):
    for call, says in (
        (lambda: domains.load("toi"), "no domain 'toi'.*'toy'"),
        (lambda: domains.preset("toy", "quik"), "no preset 'quik'.*'quick'"),
        (lambda: domains.command("toy", "rol"), "no command 'rol'.*'roll'"),
        (lambda: domains.load("lost"), r'needs a_package_that_is_not_installed.*pip install "toy\[lost\]"'),
    ):
        with pytest.raises(gs.InputError, match=says):
            call()


def test_an_extra_that_is_not_whole_is_known_without_importing(toy):
    metadata = toy.parent / "site" / "toy-1.0.dist-info" / "METADATA"
    metadata.write_text(
        metadata.read_text()
        + "Requires-Dist: never-installed-package>=1; extra == 'toy'\nRequires-Dist: numpy>=2; extra == \"toy\"\n"
        + "Requires-Dist: other-package; extra == 'else'\n"
    )
    assert domains.lacking("toy") == ["never-installed-package"]
    assert domains.lacking("lost") == []


def test_a_result_of_old_is_brought_to_todays_fields(toy):
    made = domains.load("toy").run(domains.preset("toy"))
    old = dataclasses.replace(made, config={"method": "dense", "threads": 8, "checkpoint": "/there"})
    assert domains.current(old).config == made.config
    elsewhere = dataclasses.replace(old, domain="nowhere")
    assert domains.current(elsewhere) is elsewhere


def test_a_command_line_gives_back_its_configuration(toy):
    config = dataclasses.replace(domains.preset("toy", "rare"), method="two words", slow=True, seed=4)
    assert runs.command("toy", config) == "gossamer train toy rare --method 'two words' --seed 4 --slow"


def test_a_domain_that_lacks_a_part_is_refused_by_its_name(toy) -> None:
    module = importlib.import_module(domains.package("toy") + ".benchmark")
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(module, "grid")
        with pytest.raises(gs.InputError, match=r"the domain 'toy' has no grid in gossamer_toy.benchmark"):
            domains.load("toy")
