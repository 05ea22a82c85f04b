"""Figures and the HTML page. Each function takes arrays and returns a matplotlib Figure.

Figures are made without pyplot: no global state changes and no window opens.
"""
