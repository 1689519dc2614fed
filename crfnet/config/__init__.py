"""Configurations: dataclasses whose chosen variants own their parameters, from YAML and the command line.

``variants`` declares fields that hold one of several variants, ``schema`` turns such a dataclass into the
keys of a file, ``reading`` reads them (jsonargparse), ``nested`` has sections as nested mappings.
"""
