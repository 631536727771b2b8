output "topic_arn" {
  description = "Topic that the alarms publish to."
  value       = local.topic_arn
}

output "alarms" {
  description = "Names of the alarms."
  value = sort(concat(
    [for alarm in aws_cloudwatch_metric_alarm.function : alarm.alarm_name],
    [for alarm in aws_cloudwatch_metric_alarm.dead : alarm.alarm_name],
    [for alarm in aws_cloudwatch_metric_alarm.waiting : alarm.alarm_name],
    [for alarm in aws_cloudwatch_metric_alarm.database : alarm.alarm_name],
    [aws_cloudwatch_metric_alarm.clock.alarm_name],
  ))
}

output "evaluation_periods" {
  description = "Evaluation periods of each function alarm, in minutes."
  value       = { for name, alarm in aws_cloudwatch_metric_alarm.function : name => alarm.datapoints_to_alarm }
}
