"""The documents: docs/source/*.md.j2 are rendered into README*.md and docs/*.md (make docs).

A page's source holds no figure. Each stands there as an expression, `{{ template.Epochs }}`, whose
value is read where the fact is kept: a file of benchmarks/results, template.yaml, a constant in the
code, a lock, droplens_cli/prices.json, docs/tried.json, or docs/source/cited.toml for what others
publish.
"""
