"""A calculator with a history: FastAPI, SQLite and one static page.

The sample full-stack app. It runs inside a sandbox, in /code:

    python3 -m uvicorn app:app --host 0.0.0.0 --port 8000

It writes one file, the SQLite database: the path in CALCULATOR_DB, else `calculator.sqlite` beside this module.
Importing the module touches no file. The table is made when the first request needs it.
"""

import decimal
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Literal

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, StrictInt

HERE = Path(__file__).resolve().parent
HISTORY_LIMIT = 100  # entries that GET /api/history returns
LARGEST = Decimal("1e300")  # a double, and so a JSON number in a browser, ends near 1.8e308
DIGITS = 15  # significant digits that every double keeps; 0.1 + 0.2 is 0.3 and not 0.30000000000000004

SCHEMA = """
CREATE TABLE IF NOT EXISTS history (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- an id is not used again after a clear
    expression TEXT NOT NULL,
    result NUMERIC NOT NULL                -- NUMERIC stores 8.0 as the integer 8
)
"""


class Calculation(BaseModel):
    """The body of POST /api/calculate."""

    a: Decimal
    b: Decimal
    op: Literal["+", "-", "*", "/"]


class Entry(BaseModel):
    """One line of the history. `result` is StrictInt first, so that 8 stays 8 and 0.5 is not cut to 0."""

    id: int
    expression: str
    result: StrictInt | float


def as_number(value: Decimal) -> int | float:
    """The JSON number for a value: 8 for 8.0, else the nearest double."""
    number = float(value)
    return int(number) if number.is_integer() and abs(number) < 10**DIGITS else number


def evaluate(a: Decimal, b: Decimal, op: str) -> int | float:
    """Return a op b, rounded to 15 significant digits. Raises ValueError with a message for people."""
    if op == "/" and b == 0:
        raise ValueError("division by zero: the second number, b, must not be 0")
    with decimal.localcontext() as context:
        context.prec = DIGITS
        context.Emax, context.Emin = decimal.MAX_EMAX, decimal.MIN_EMIN
        result = {"+": a.__add__, "-": a.__sub__, "*": a.__mul__, "/": a.__truediv__}[op](b)
    if abs(result) > LARGEST:
        raise ValueError("the result is too large: its size must not exceed 1e300")
    return as_number(result)


def as_text(value: Decimal) -> str:
    """The operand as a person writes it: 5 for 5.0, 0.5 for 0.50, 1e+20 for a long one."""
    return f"{as_number(value):.15g}"


@contextmanager
def history(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection with the table in place. Commits when the block ends well, rolls back when it raises."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    try:
        with connection:
            connection.execute(SCHEMA)
            yield connection
    finally:
        connection.close()


def create_app(database: Path) -> FastAPI:
    """The application over one database file. Handlers are plain functions, so SQLite never blocks the event loop."""
    app = FastAPI(title="Calculator")

    @app.exception_handler(RequestValidationError)
    def explain(_request: Request, error: RequestValidationError) -> JSONResponse:
        """Answer a bad field with one sentence per field instead of FastAPI's list of objects."""
        problems = [f"{'.'.join(str(part) for part in e['loc'][1:]) or 'body'}: {e['msg']}" for e in error.errors()]
        return JSONResponse({"detail": "; ".join(problems)}, status_code=422)

    @app.post("/api/calculate")
    def calculate(body: Calculation) -> Entry:
        try:
            result = evaluate(body.a, body.b, body.op)
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        expression = f"{as_text(body.a)} {body.op} {as_text(body.b)}"
        with history(database) as db:
            statement = "INSERT INTO history (expression, result) VALUES (?, ?) RETURNING id"
            (row_id,) = db.execute(statement, (expression, result)).fetchone()
        return Entry(id=row_id, expression=expression, result=result)

    @app.get("/api/history")
    def read_history() -> list[Entry]:
        with history(database) as db:
            statement = "SELECT id, expression, result FROM history ORDER BY id DESC LIMIT ?"
            return [Entry(**dict(row)) for row in db.execute(statement, (HISTORY_LIMIT,))]

    @app.delete("/api/history")
    def clear_history() -> dict[str, int]:
        with history(database) as db:
            return {"cleared": db.execute("DELETE FROM history").rowcount}

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(HERE / "static" / "index.html")

    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    return app


app = create_app(Path(os.environ.get("CALCULATOR_DB") or HERE / "calculator.sqlite"))
