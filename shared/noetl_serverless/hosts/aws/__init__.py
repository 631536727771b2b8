"""AWS: Lambda functions, invoked through SQS, with secrets from Secrets Manager and results in S3.

Four small APIs are called by signed requests of our own: boto3 takes longer to import than the rest of a function.
"""

PACKAGE_FORM = "compiled"
