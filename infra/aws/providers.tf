# The same files are used for AWS and for an emulator; only endpoint_url differs.
provider "aws" {
  region = var.region

  default_tags {
    tags = merge({ deployment = var.name, application = "noetl" }, var.tags)
  }

  # an emulator has no real account, no metadata service, and no bucket names in its host names
  skip_credentials_validation = var.endpoint_url != null
  skip_metadata_api_check     = var.endpoint_url != null
  skip_region_validation      = var.endpoint_url != null
  s3_use_path_style           = var.endpoint_url != null

  dynamic "endpoints" {
    for_each = var.endpoint_url == null ? [] : [var.endpoint_url]
    content {
      apigatewayv2     = endpoints.value
      budgets          = endpoints.value
      cloudwatch       = endpoints.value
      cloudwatchlogs   = endpoints.value
      ec2              = endpoints.value
      ecs              = endpoints.value
      efs              = endpoints.value
      iam              = endpoints.value
      kms              = endpoints.value
      lambda           = endpoints.value
      rds              = endpoints.value
      s3               = endpoints.value
      scheduler        = endpoints.value
      secretsmanager   = endpoints.value
      servicediscovery = endpoints.value
      sns              = endpoints.value
      sqs              = endpoints.value
      sts              = endpoints.value
    }
  }
}
