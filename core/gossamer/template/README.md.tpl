# NAME

What it does, in a sentence. Written by `gossamer new NAME`; it works as it is, on points that a hidden network labels. Replace the
data first (`data.py`), then the network (`model.py`), then what is measured (`evaluate.py`).

    pip install -e NAME
    gossamer train NAME quick --method rigl --save NAME.gossamer
    gossamer NAME predict NAME.gossamer --point 0.1 0.2 …
    gossamer compare --domain NAME
    pytest NAME

## Data

Where they come from, their licence, and what is in the test part that no training saw.

## Results

A number stands beside the command that makes it: `gossamer report --domain NAME --format markdown`.

## What did not work

Say it too.
