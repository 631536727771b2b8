# The alias that gets all traffic, and what invokes it: a queue, a schedule.

locals {
  # rate(1 minute), rate(2 minutes)
  schedule_minutes    = try(var.schedule.every_minutes, 1)
  schedule_expression = "rate(${local.schedule_minutes} minute${local.schedule_minutes == 1 ? "" : "s"})"
}

resource "aws_lambda_alias" "live" {
  name             = "live"
  description      = "Target of callers, queues and schedules"
  function_name    = var.function.name
  function_version = var.function.version
}

resource "aws_lambda_event_source_mapping" "queue" {
  count = var.queue == null ? 0 : 1

  event_source_arn        = var.queue.arn
  function_name           = aws_lambda_alias.live.arn
  batch_size              = var.queue.batch_size
  function_response_types = ["ReportBatchItemFailures"]

  dynamic "scaling_config" {
    for_each = var.queue.max_concurrency == null ? [] : [var.queue.max_concurrency]
    content {
      maximum_concurrency = scaling_config.value
    }
  }
}

# a failed tick is not retried, since the next one follows; it is kept only for inspection
resource "aws_lambda_function_event_invoke_config" "tick" {
  count = var.schedule == null ? 0 : 1

  function_name                = var.function.name
  qualifier                    = aws_lambda_alias.live.name
  maximum_retry_attempts       = 0
  maximum_event_age_in_seconds = 60

  destination_config {
    on_failure {
      destination = var.schedule.dead_arn
    }
  }
}

resource "aws_iam_role" "clock" {
  count = var.schedule == null ? 0 : 1

  name        = "${var.function.name}-clock"
  description = "Lets the schedule of ${var.function.name} start it"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "scheduler.amazonaws.com" }
      Condition = { StringEquals = { "aws:SourceAccount" = split(":", aws_lambda_alias.live.arn)[4] } }
    }]
  })
}

resource "aws_iam_role_policy" "clock" {
  count = var.schedule == null ? 0 : 1

  name = "clock"
  role = aws_iam_role.clock[0].name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "InvokeFunction"
        Effect   = "Allow"
        Action   = ["lambda:InvokeFunction"]
        Resource = [aws_lambda_alias.live.arn]
      },
      {
        Sid      = "SendDeadLetters"
        Effect   = "Allow"
        Action   = ["sqs:SendMessage"]
        Resource = [var.schedule.dead_arn]
      },
    ]
  })
}

resource "aws_scheduler_schedule" "clock" {
  # checkov:skip=CKV_AWS_297: encrypted with the deployment's key if it has one; the input contains no secret
  count = var.schedule == null ? 0 : 1

  name                = var.function.name
  description         = "Starts ${var.function.name}"
  schedule_expression = local.schedule_expression
  kms_key_arn         = var.schedule.kms_key_arn

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_lambda_alias.live.arn
    role_arn = aws_iam_role.clock[0].arn
    input    = var.schedule.input

    retry_policy {
      maximum_event_age_in_seconds = 60
      maximum_retry_attempts       = 0
    }

    dead_letter_config {
      arn = var.schedule.dead_arn
    }
  }

  depends_on = [aws_iam_role_policy.clock]
}
