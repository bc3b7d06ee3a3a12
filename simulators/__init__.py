"""Worlds that ship with recomind: each subclass of `World` here stands for the truth.

A world is what logs are collected in and what decides a release. A simulator is a model of one,
fitted to its logs by `recomind.simulation`; policies train in it. This package keeps the name
`simulators` that the project was given, and holds worlds only.
"""
