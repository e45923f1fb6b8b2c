"""Throwing a database away: for demonstrations, which start from nothing each time. Never for real data."""

from __future__ import annotations

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict


def drop_database(url: str) -> None:
    """Drop the database that `url` names, whoever is connected to it; the server stays."""
    name = str(conninfo_to_dict(url)["dbname"])
    with psycopg.connect(url, dbname="postgres", autocommit=True) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
