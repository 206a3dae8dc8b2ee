"""True defaults in the reference: an extension of griffe, which takes the first of several choices for the default.

numpydoc writes ``method : {"ml", "reml", "bayes"}``; without the braces griffe takes the default from the signature.
"""

import re
from typing import Any

from griffe import Extension

CHOICES = re.compile(r"^([ \t]*\*{0,2}\w+(?:, \w+)* : )\{([^{}\n]*)\}", flags=re.M)


class TrueDefaults(Extension):
    """Take the braces off the choices of parameters."""

    def on_function_instance(self, *, func: Any, **kwargs: Any) -> None:
        """Rewrite the docstring of a function, which is parsed afterwards."""
        if func.docstring is not None:
            func.docstring.value = CHOICES.sub(r"\1\2", func.docstring.value)
