"""Guess a person's time zone from a country and a region, as web logs give them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

MAIN_ZONES = {
    "AR": "America/Argentina/Buenos_Aires",
    "AU": "Australia/Sydney",
    "BR": "America/Sao_Paulo",
    "CA": "America/Toronto",
    "CD": "Africa/Kinshasa",
    "CL": "America/Santiago",
    "CN": "Asia/Shanghai",
    "ES": "Europe/Madrid",
    "ID": "Asia/Jakarta",
    "KZ": "Asia/Almaty",
    "MX": "America/Mexico_City",
    "NZ": "Pacific/Auckland",
    "PT": "Europe/Lisbon",
    "RU": "Europe/Moscow",
    "UA": "Europe/Kyiv",
    "US": "America/New_York",
    "UZ": "Asia/Tashkent",
}
"""Where most people of a country with several zones live."""

_REGIONS = {
    "AU": {"Australia/Adelaide": "SA", "Australia/Brisbane": "QLD", "Australia/Darwin": "NT", "Australia/Hobart": "TAS",
           "Australia/Melbourne": "VIC", "Australia/Perth": "WA"},
    "BR": {"America/Araguaina": "TO", "America/Bahia": "BA", "America/Belem": "AP PA", "America/Boa_Vista": "RR",
           "America/Campo_Grande": "MS", "America/Cuiaba": "MT", "America/Fortaleza": "CE MA PB PI RN", "America/Maceio": "AL SE",
           "America/Manaus": "AM", "America/Porto_Velho": "RO", "America/Recife": "PE", "America/Rio_Branco": "AC"},
    "CA": {"America/Edmonton": "AB", "America/Halifax": "NB NS PE", "America/Regina": "SK", "America/St_Johns": "NL",
           "America/Vancouver": "BC", "America/Whitehorse": "YT", "America/Winnipeg": "MB", "America/Yellowknife": "NT"},
    "US": {"America/Anchorage": "AK", "America/Boise": "ID", "America/Chicago": "AL AR IA IL KS LA MN MO MS ND NE OK SD TN TX WI",
           "America/Denver": "CO MT NM UT WY", "America/Detroit": "MI", "America/Indiana/Indianapolis": "IN",
           "America/Los_Angeles": "CA NV OR WA", "America/Phoenix": "AZ", "Pacific/Honolulu": "HI"},
}  # fmt: skip


def zone_of(country: str | None, region: str | None = None) -> str | None:
    """Return the IANA zone where most people of a country (ISO 3166 code) and region live, None for an unknown country."""
    if not country:
        return None
    country = country.strip().upper()
    regional = _zone_of_region().get((country, (region or "").strip().upper()))
    return regional or MAIN_ZONES.get(country) or _first_zones().get(country)


@cache
def _zone_of_region() -> Mapping[tuple[str, str], str]:
    return {(country, region): zone for country, zones in _REGIONS.items() for zone, regions in zones.items() for region in regions.split()}


@cache
def _first_zones() -> Mapping[str, str]:
    """Return the first zone of each country in the time zone database's own list (columns: code, coordinates, zone)."""
    lines = files("tzdata").joinpath("zoneinfo", "zone.tab").read_text("utf-8").splitlines()
    first: dict[str, str] = {}
    for line in lines:
        if not line.startswith("#"):
            country, _, zone = line.split("\t")[:3]
            first.setdefault(country, zone)
    return first
