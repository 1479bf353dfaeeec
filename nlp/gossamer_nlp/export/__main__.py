"""python -m gossamer_nlp.export FOLDER FILE."""

from gossamer.cli import run_command

if __name__ == "__main__":
    run_command("nlp", "export")
