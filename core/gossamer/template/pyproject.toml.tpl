[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "gossamer-NAME"
version = "0.1.0"
description = "NAME, sparse beside dense"
requires-python = ">=3.11"
dependencies = ["gossamer"]

[project.entry-points."gossamer.domains"]
NAME = "gossamer_NAME.benchmark"

[tool.hatch.build.targets.wheel]
packages = ["gossamer_NAME"]

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["."]
