"""Google Cloud: Cloud Run functions, invoked through Cloud Tasks, with secrets from Secret Manager and results in GCS.

Two small APIs are called by requests of our own: Google's clients for them take longer to import than the rest of a
function.
"""

PACKAGE_FORM = "source"
