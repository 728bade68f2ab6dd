"""Lengths of the best tours known of the seeded instances of the travelling salesman.

Found with LKH (Helsgaun 2000, An effective implementation of the Lin-Kernighan traveling salesman
heuristic) through elkai, ten runs each, November 2026. That they are optimal is likely and not
proven: a shorter tour would have an excess below 0.
"""

REFERENCES = {
    "training": (
        7.392721817999244,
        7.8488851763845995,
        8.054662386859851,
        7.9474464837867504,
        7.888003960841846,
        7.4775286017888964,
    ),
    "validation": (
        7.780018947692627,
        7.80043510101403,
        7.897377930201945,
    ),
    "holdout": (
        7.817904064497867,
        7.540285629562122,
        7.406451932087244,
        7.489397867470291,
        7.795362346826681,
        7.725452729714858,
        7.891907601364853,
        7.68629534156373,
        7.534149710432566,
        7.749337686489062,
        7.669525323202,
        7.967299185180841,
        7.858874927169125,
        7.332833345496084,
        7.900381430635996,
        8.026899559894925,
    ),
}
