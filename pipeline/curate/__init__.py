"""Curate: samples in, split and weight out."""
