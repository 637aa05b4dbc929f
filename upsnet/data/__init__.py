"""Preparing data sets and feeding them to the network."""
