#!/bin/sh
# As tools/dist_search.sh, under its name of MMRazor 0.x.
exec sh "$(dirname "$0")/../dist_search.sh" "$@"
