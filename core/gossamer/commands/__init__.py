"""The core's commands, a module each: `Options`, which tyro reads, and `main(options)`."""
