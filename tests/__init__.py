"""Tests of the package, in the folders of the package."""
