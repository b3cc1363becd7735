"""What is not yet as it should be: strict xfails of the zoo's tests, with what is seen in its place.

A test that passes while its line stands here fails the run: the change that makes it pass deletes the line. A
member of REFUSED that becomes an export run by TensorFlow moves to BY_TENSORFLOW.
"""

from __future__ import annotations

# Members of the zoo that an export refuses, and the error that it ends in.
REFUSED: dict[str, str] = {}

# Members that are exported, and why the native executor does not run them.
BY_TENSORFLOW: dict[str, str] = {}

# Odd cases whose answer is not what it should be, and what it is.
ODD: dict[str, str] = {}
