"""Files of this machine and of S3, read and written the same way: the only package that imports boto3.

`files` writes on this machine, `paths` tells the two kinds apart, `local` is what commands use. Below it:
`s3` (client and single requests), `retry`, `errors`, `upload`, `download`, `transfer`, `cache`, `uploads`.
"""

from upsnet.storage.files import make_folder, write_file

__all__ = ["make_folder", "write_file"]
