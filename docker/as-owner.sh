#!/bin/sh
# as-owner.sh FOLDER COMMAND…: run a command as the owner of a folder that belongs to the host, so
# that the person there can delete what it writes. Where that is root, the folder goes to user app.
set -eu
folder=$1
shift
if [ "$(id -u)" -ne 0 ]; then
  exec "$@"
fi
if [ "$(stat -c %u "$folder")" -eq 0 ]; then
  chown app:app "$folder"
fi
exec setpriv --reuid "$(stat -c %u "$folder")" --regid "$(stat -c %g "$folder")" --clear-groups -- "$@"
