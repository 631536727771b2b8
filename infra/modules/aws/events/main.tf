# A topic whose messages go to a function's queue: those that publishers send, and one for each object written below a prefix.

resource "aws_sns_topic" "this" {
  # checkov:skip=CKV_AWS_26: encrypted with the deployment's key if it has one; a message says only that something has happened
  name              = var.name
  kms_master_key_id = var.kms_key_arn
}

resource "aws_sns_topic_policy" "this" {
  # without a statement the topic has the policy that SNS gives it: its account's
  count = var.results == null && length(var.publishers) + length(var.buckets) == 0 ? 0 : 1

  arn = aws_sns_topic.this.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      var.results == null ? [] : [{
        Sid       = "PublishResults"
        Effect    = "Allow"
        Principal = { Service = "s3.amazonaws.com" }
        Action    = ["sns:Publish"]
        Resource  = [aws_sns_topic.this.arn]
        Condition = {
          ArnEquals    = { "aws:SourceArn" = var.results.bucket_arn }
          StringEquals = { "aws:SourceAccount" = split(":", aws_sns_topic.this.arn)[4] }
        }
      }],
      length(var.buckets) == 0 ? [] : [{
        Sid       = "PublishObjects"
        Effect    = "Allow"
        Principal = { Service = "s3.amazonaws.com" }
        Action    = ["sns:Publish"]
        Resource  = [aws_sns_topic.this.arn]
        Condition = {
          ArnEquals    = { "aws:SourceArn" = sort(var.buckets) }
          StringEquals = { "aws:SourceAccount" = split(":", aws_sns_topic.this.arn)[4] }
        }
      }],
      length(var.publishers) == 0 ? [] : [{
        Sid       = "Publish"
        Effect    = "Allow"
        Principal = { AWS = sort(var.publishers) }
        Action    = ["sns:Publish"]
        Resource  = [aws_sns_topic.this.arn]
      }],
    )
  })
}

resource "aws_s3_bucket_notification" "results" {
  count = try(var.results.notify, false) ? 1 : 0

  bucket = var.results.bucket

  topic {
    id            = var.name
    topic_arn     = aws_sns_topic.this.arn
    events        = ["s3:ObjectCreated:*"]
    filter_prefix = var.results.prefix
  }

  # S3 sends a test message at once
  depends_on = [aws_sns_topic_policy.this]
}

# in SNS's envelope, which is JSON whatever a publisher writes
resource "aws_sns_topic_subscription" "queue" {
  topic_arn = aws_sns_topic.this.arn
  protocol  = "sqs"
  endpoint  = var.queue_arn
}
