output "topic_arn" {
  description = "Topic that the alarms publish to."
  value       = local.topic
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

output "patience" {
  description = "Minutes after which each alarm of a function goes off."
  value       = { for name, alarm in aws_cloudwatch_metric_alarm.function : name => alarm.datapoints_to_alarm }
}
