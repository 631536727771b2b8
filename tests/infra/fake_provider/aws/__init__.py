"""The provider hashicorp/aws, through boto3."""
