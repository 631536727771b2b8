# The queue that a function is notified through, and its dead-letter queue.

resource "aws_sqs_queue" "dead" {
  # checkov:skip=CKV_AWS_27: encrypted with SQS's own key unless the deployment has one
  name                              = "${var.name}-dead"
  message_retention_seconds         = 1209600
  sqs_managed_sse_enabled           = var.kms_key_arn == null ? true : null
  kms_master_key_id                 = var.kms_key_arn
  kms_data_key_reuse_period_seconds = var.kms_key_arn == null ? null : 3600
}

resource "aws_sqs_queue" "this" {
  # checkov:skip=CKV_AWS_27: encrypted with SQS's own key unless the deployment has one
  name                              = var.name
  visibility_timeout_seconds        = var.visibility_s
  message_retention_seconds         = 86400
  receive_wait_time_seconds         = 20
  sqs_managed_sse_enabled           = var.kms_key_arn == null ? true : null
  kms_master_key_id                 = var.kms_key_arn
  kms_data_key_reuse_period_seconds = var.kms_key_arn == null ? null : 3600
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead.arn
    maxReceiveCount     = var.max_receives
  })
}

resource "aws_sqs_queue_redrive_allow_policy" "dead" {
  queue_url = aws_sqs_queue.dead.url
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.this.arn]
  })
}

# ---- who may use them, beside those whose roles say so

locals {
  tls_statements = { for kind, arn in { live = aws_sqs_queue.this.arn, dead = aws_sqs_queue.dead.arn } : kind => {
    Sid       = "DenyInsecureTransport"
    Effect    = "Deny"
    Principal = "*"
    Action    = ["sqs:ReceiveMessage", "sqs:SendMessage"]
    Resource  = [arn]
    Condition = { Bool = { "aws:SecureTransport" = "false" } }
  } if var.tls_only }
  topic_statements = { for topic in var.topic[*] : "live" => {
    Sid       = "SendEvents"
    Effect    = "Allow"
    Principal = { Service = "sns.amazonaws.com" }
    Action    = ["sqs:SendMessage"]
    Resource  = [aws_sqs_queue.this.arn]
    Condition = { ArnEquals = { "aws:SourceArn" = topic.arn } }
  } }
}

resource "aws_sqs_queue_policy" "this" {
  for_each = toset(concat(var.tls_only ? ["live", "dead"] : [], var.topic == null ? [] : ["live"]))

  queue_url = { live = aws_sqs_queue.this.url, dead = aws_sqs_queue.dead.url }[each.key]
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = concat(try([local.tls_statements[each.key]], []), try([local.topic_statements[each.key]], []))
  })
}
