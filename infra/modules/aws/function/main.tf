# One function: its role, its log group, and a version of it for each change.

locals {
  # Lambda creates the network interfaces of a function in a VPC with the function's own role
  # (https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html); EC2 has no narrower resource for these actions.
  network_actions = [
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
  ]
}

# ---- what it may do, in AWS's words

locals {
  results        = var.access.results == null ? { verb = null, bucket_arn = "", prefix = "" } : var.access.results
  result_objects = ["${local.results.bucket_arn}/${local.results.prefix}*"]
  # who may not list is told "forbidden" of an object that does not exist
  list_results = {
    actions    = ["s3:ListBucket"]
    resources  = [local.results.bucket_arn]
    conditions = { StringLike = { "s3:prefix" = ["${local.results.prefix}*"] } }
  }
  result_rules = {
    read = {
      ReadResults = { actions = ["s3:GetObject"], resources = local.result_objects }
      ListResults = local.list_results
    }
    write = {
      # the control plane writes and deletes what users put; a worker deletes an incomplete archive before it writes the
      # complete one, and takes back an upload that failed
      ReadWriteResults = {
        actions   = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
        resources = local.result_objects
      }
      ListResults = local.list_results
    }
    sweep = {
      # it starts sub-playbooks that the control plane did not get to, and their input may be in the bucket
      ReadResults   = { actions = ["s3:GetObject"], resources = local.result_objects }
      DeleteResults = { actions = ["s3:AbortMultipartUpload", "s3:DeleteObject"], resources = local.result_objects }
      ListResults   = local.list_results
      # no condition of S3 bounds it to a prefix; it shows names of uploads that did not end
      ListUploads = { actions = ["s3:ListBucketMultipartUploads"], resources = [local.results.bucket_arn] }
    }
  }
  # who writes what the keys encrypt
  encrypts = length(var.access.invokes) + length(var.access.fills) > 0 || local.results.verb == "write"

  rules = merge(
    {
      ReadSecrets        = { actions = ["secretsmanager:GetSecretValue"], resources = var.access.reads }
      WriteSecrets       = { actions = ["secretsmanager:PutSecretValue"], resources = var.access.fills }
      RotateTokens       = { actions = ["secretsmanager:DescribeSecret", "secretsmanager:UpdateSecretVersionStage"], resources = var.access.rotates }
      Decrypt            = { actions = ["kms:Decrypt"], resources = var.access.keys }
      Encrypt            = { actions = ["kms:GenerateDataKey"], resources = local.encrypts ? var.access.keys : [] }
      SendToQueues       = { actions = ["sqs:SendMessage"], resources = var.access.invokes }
      ReceiveFromQueue   = { actions = ["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"], resources = var.access.receives[*] }
      PollQueues         = { actions = ["sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"], resources = var.access.polls }
      SendDeadLetters    = { actions = ["sqs:SendMessage"], resources = var.access.dead_letters[*] }
      InvokeControlPlane = { actions = ["lambda:InvokeFunction"], resources = var.access.calls }
      ConnectToDatabase  = { actions = ["rds-db:connect"], resources = var.access.connects }
    },
    try(local.result_rules[local.results.verb], {}),
  )
  policy_statements = [
    for id, rule in local.rules : merge(
      { Sid = id, Effect = "Allow", Action = rule.actions, Resource = rule.resources },
      try({ Condition = rule.conditions }, {}),
    ) if length(rule.resources) > 0
  ]
}

resource "aws_cloudwatch_log_group" "this" {
  # checkov:skip=CKV_AWS_338: log retention is a setting of the deployment; a year is seldom worth its price
  # checkov:skip=CKV_AWS_158: encrypted with the deployment's key if it has one
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log.retention_days
  kms_key_id        = var.log.kms_key_arn
}

resource "aws_iam_role" "this" {
  name        = var.name
  description = "Role of the function ${var.name} only"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "this" {
  # checkov:skip=CKV_AWS_290: the actions on "*" are those that Lambda itself needs for network interfaces
  # checkov:skip=CKV_AWS_355: as above; the function's own code is denied them
  name = "function"
  role = aws_iam_role.this.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(local.policy_statements, [
      {
        Sid      = "WriteLogs"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = ["${aws_cloudwatch_log_group.this.arn}:log-stream:*"]
      },
      {
        Sid      = "NetworkInterfaces"
        Effect   = "Allow"
        Action   = local.network_actions
        Resource = ["*"]
      },
      {
        # Lambda may use these actions, the code that runs in it may not
        Sid      = "DenyNetworkInterfacesToCode"
        Effect   = "Deny"
        Action   = local.network_actions
        Resource = ["*"]
        Condition = {
          ArnEquals = {
            "lambda:SourceFunctionArn" = "arn:${var.partition}:lambda:${local.region}:${local.account}:function:${var.name}"
          }
        }
      },
    ])
  })
}

locals {
  # arn:aws:logs:<region>:<account>:log-group:...
  region  = split(":", aws_cloudwatch_log_group.this.arn)[3]
  account = split(":", aws_cloudwatch_log_group.this.arn)[4]
}

resource "aws_lambda_function" "this" {
  # checkov:skip=CKV_AWS_50: traces go out over OTLP where telemetry is set up, not through X-Ray
  # checkov:skip=CKV_AWS_115: capped where functions.yaml or a variable sets the size of a pool, not for every function
  # checkov:skip=CKV_AWS_116: failures are reported by the dead-letter queue and the event invoke configuration
  # checkov:skip=CKV_AWS_173: encrypted with Lambda's own key unless the deployment has one; it contains no secrets
  # checkov:skip=CKV_AWS_272: packages are pinned by their SHA-256, from the build to the function
  function_name                  = var.name
  description                    = var.description
  role                           = aws_iam_role.this.arn
  s3_bucket                      = var.code.bucket
  s3_key                         = var.code.key
  source_code_hash               = var.code.sha256
  handler                        = var.code.handler
  runtime                        = var.code.runtime
  architectures                  = [var.code.architecture]
  memory_size                    = var.limits.memory_mb
  timeout                        = var.limits.timeout_s
  reserved_concurrent_executions = var.limits.max_instances
  kms_key_arn                    = var.kms_key_arn
  publish                        = true

  environment {
    variables = var.environment
  }

  ephemeral_storage {
    size = var.limits.scratch_mb
  }

  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.this.name
  }

  vpc_config {
    subnet_ids         = var.network.subnet_ids
    security_group_ids = var.network.security_group_ids
  }

  # without its policy the function can neither join its network nor log
  depends_on = [aws_iam_role_policy.this]
}
