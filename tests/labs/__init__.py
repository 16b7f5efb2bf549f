"""Tests of the courses' programs."""
