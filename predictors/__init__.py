"""Predictors: genotype rows in, estimates with their uncertainty out."""
