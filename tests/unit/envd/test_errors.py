from envd.errors import HTTP_STATUS, ClientDisconnected, EnvdError, no_space, not_found


def test_a_code_decides_the_status_unless_one_is_given() -> None:
    assert not_found("x").status == 404
    assert EnvdError("unknown", "x", status=405).status == 405
    assert no_space().status == 507
    assert ClientDisconnected().status == HTTP_STATUS["canceled"] == 499
