# Alarms for errors, throttles, dead letters, waiting invocations, the schedule and the database, and a dashboard.

locals {
  topic_arn     = var.alarms.topic_arn == null ? aws_sns_topic.alarms[0].arn : var.alarms.topic_arn
  alarm_actions = [local.topic_arn]

  function_alarms = merge([
    for name, function in var.functions : {
      "${name}-errors" = {
        metric      = "Errors"
        function    = function.name
        threshold   = 1
        periods     = function.error_minutes
        description = "Invocations of ${function.name} fail: exception, timeout or out of memory"
      }
      "${name}-throttles" = {
        metric      = "Throttles"
        function    = function.name
        threshold   = 1
        periods     = 15
        description = "${function.name} has been at its concurrency limit for 15 minutes: work is delayed, not lost"
      }
      "${name}-dropped" = {
        metric      = "AsyncEventsDropped"
        function    = function.name
        threshold   = 1
        periods     = 1
        description = "Asynchronous invocations of ${function.name} were dropped"
      }
    }
  ]...)
}

resource "aws_sns_topic" "alarms" {
  # checkov:skip=CKV_AWS_26: encrypted with the deployment's key if it has one; an alarm names functions and queues only
  count = var.alarms.topic_arn == null ? 1 : 0

  name              = "${var.name}-alarms"
  kms_master_key_id = var.kms_key_arn
}

resource "aws_sns_topic_policy" "alarms" {
  count = var.alarms.topic_arn == null ? 1 : 0

  arn = aws_sns_topic.alarms[0].arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "PublishAlarms"
      Effect    = "Allow"
      Principal = { Service = ["budgets.amazonaws.com", "cloudwatch.amazonaws.com"] }
      Action    = ["sns:Publish"]
      Resource  = [aws_sns_topic.alarms[0].arn]
      Condition = { StringEquals = { "aws:SourceAccount" = split(":", aws_sns_topic.alarms[0].arn)[4] } }
    }]
  })
}

resource "aws_sns_topic_subscription" "email" {
  for_each = var.alarms.emails

  topic_arn = aws_sns_topic.alarms[0].arn
  protocol  = "email"
  endpoint  = each.value
}

resource "aws_cloudwatch_metric_alarm" "function" {
  for_each = local.function_alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = "AWS/Lambda"
  metric_name         = each.value.metric
  dimensions          = { FunctionName = each.value.function }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = each.value.periods
  datapoints_to_alarm = each.value.periods
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = each.value.threshold
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

resource "aws_cloudwatch_metric_alarm" "dead" {
  for_each = var.queues

  alarm_name          = "${var.name}-${each.key}-dead-letters"
  alarm_description   = "Invocations of ${each.key} could not be processed and are in the dead-letter queue ${each.value.dead_name}"
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = each.value.dead_name }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 1
  datapoints_to_alarm = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

resource "aws_cloudwatch_metric_alarm" "waiting" {
  for_each = var.queues

  alarm_name          = "${var.name}-${each.key}-waiting"
  alarm_description   = "Invocations of ${each.key} have waited for more than ${var.alarms.waiting_s} s: its concurrency limit is too low, or it does not start"
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateAgeOfOldestMessage"
  dimensions          = { QueueName = each.value.name }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 3
  datapoints_to_alarm = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.alarms.waiting_s
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

# a function that does not run cannot report its own delay, so the alarm is on the absence of invocations
resource "aws_cloudwatch_metric_alarm" "clock" {
  alarm_name          = "${var.name}-schedule"
  alarm_description   = "${var.scheduled_function.name} has not run for ${var.scheduled_function.late_minutes} minutes: lost notifications are not recovered and timers do not fire"
  namespace           = "AWS/Lambda"
  metric_name         = "Invocations"
  dimensions          = { FunctionName = var.scheduled_function.name }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = var.scheduled_function.late_minutes
  datapoints_to_alarm = var.scheduled_function.late_minutes
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

resource "aws_cloudwatch_metric_alarm" "database" {
  count = var.database == null ? 0 : 1

  alarm_name          = "${var.name}-database"
  alarm_description   = "The CPU utilization of the database has been above 90 % for 15 minutes"
  namespace           = "AWS/RDS"
  metric_name         = "CPUUtilization"
  dimensions          = { (var.database.kind) = var.database.value }
  statistic           = "Average"
  period              = 300
  evaluation_periods  = 3
  datapoints_to_alarm = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 90
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

locals {
  function_names = sort(keys(var.functions))
  queue_names    = sort(keys(var.queues))
  widgets = concat(
    [
      { title = "Invocations per minute", metrics = [for name in local.function_names : ["AWS/Lambda", "Invocations", "FunctionName", var.functions[name].name]], stat = "Sum" },
      { title = "Concurrent executions", metrics = [for name in local.function_names : ["AWS/Lambda", "ConcurrentExecutions", "FunctionName", var.functions[name].name]], stat = "Maximum" },
      { title = "Errors and throttles per minute", metrics = concat([
        for name in local.function_names : [for metric in ["Errors", "Throttles"] : ["AWS/Lambda", metric, "FunctionName", var.functions[name].name]]
      ]...), stat = "Sum" },
      { title = "Duration, 95th percentile", metrics = [for name in local.function_names : ["AWS/Lambda", "Duration", "FunctionName", var.functions[name].name]], stat = "p95" },
      { title = "Age of the oldest invocation, seconds", metrics = [for name in local.queue_names : ["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", var.queues[name].name]], stat = "Maximum" },
      { title = "Dead letters", metrics = [for name in local.queue_names : ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", var.queues[name].dead_name]], stat = "Maximum" },
    ],
    var.database == null ? [] : [
      { title = "Database: CPU utilization, percent", metrics = [["AWS/RDS", "CPUUtilization", var.database.kind, var.database.value]], stat = "Average" },
      { title = "Database: connections", metrics = [["AWS/RDS", "DatabaseConnections", var.database.kind, var.database.value]], stat = "Maximum" },
    ],
  )
}

resource "aws_cloudwatch_dashboard" "this" {
  count = var.dashboard ? 1 : 0

  dashboard_name = var.name
  dashboard_body = jsonencode({
    widgets = [
      for place, chart in local.widgets : {
        type   = "metric"
        x      = 12 * (place % 2)
        y      = 6 * floor(place / 2)
        width  = 12
        height = 6
        properties = {
          title   = chart.title
          region  = var.region
          view    = "timeSeries"
          period  = 60
          stat    = chart.stat
          metrics = chart.metrics
        }
      }
    ]
  })
}

resource "aws_budgets_budget" "this" {
  count = var.budget == null ? 0 : 1

  name         = var.name
  budget_type  = "COST"
  limit_amount = tostring(var.budget.usd)
  limit_unit   = "USD"
  time_unit    = "MONTHLY"

  dynamic "notification" {
    for_each = { ACTUAL = 80, FORECASTED = 100 }
    content {
      comparison_operator        = "GREATER_THAN"
      notification_type          = notification.key
      threshold                  = notification.value
      threshold_type             = "PERCENTAGE"
      subscriber_email_addresses = var.budget.emails
    }
  }
}
