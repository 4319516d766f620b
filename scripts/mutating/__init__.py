"""Mutation testing: `scripts/mutants`.

`areas` says which modules are altered and which tests have to notice; `operators` what is altered; `session` remembers
what became of each mutant; `trial` runs the tests on one, `collected` does so without importing them anew, and `visits`
knows which come by it. `unchanged.toml` says of survivors why they change nothing.
"""
