"""How configurations are declared, read and written: variants that own their parameters, typed YAML.

``variants`` declares fields, ``schema`` says what a file may hold for them, ``reader`` reads YAML and the
command line by it, ``nested`` has what is done with plain mappings. What may be configured is in the
dataclasses of the rooms themselves, as `CRFConfig` and `ModelConfig`.
"""
