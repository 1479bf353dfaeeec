"""python -m gossamer_nlp.index FOLDER."""

from gossamer.cli import run_command

if __name__ == "__main__":
    run_command("nlp", "index")
