"""Masks in other people's trainers: `gossamer.integrations.lightning` and `gossamer.integrations.transformers`."""
