"""How property tests run: the same examples each time, so that a failure is the code's and not the day's."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

always_the_same = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.large_base_example],
)

# Text as JSON can spell it: half of a surrogate pair, NUL and line breaks among them.
anything = st.text(st.characters(), max_size=40) | st.sampled_from(
    ["", "\0", "\ud800", "\udcff", "..", "../../etc/passwd", "a\r\nb: c", '"', "\\", "${A}", "~", "a" * 4096, "é" * 300]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([10**30, -(10**400), 1e308]) | st.floats() | anything,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """`data` in pieces, cut anywhere."""
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
