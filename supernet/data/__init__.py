"""Readers of saliency data sets, one file per on-disk format, one sample type."""
