"""Figures as SVG text, without dependencies."""
