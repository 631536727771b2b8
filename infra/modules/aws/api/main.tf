# An HTTP API whose every request goes to one function.

resource "aws_cloudwatch_log_group" "this" {
  # checkov:skip=CKV_AWS_338: log retention is a setting of the deployment; a year is seldom worth its price
  # checkov:skip=CKV_AWS_158: encrypted with the deployment's key if it has one
  name              = "/aws/apigateway/${var.name}"
  retention_in_days = var.log.retention_days
  kms_key_id        = var.log.kms_key_arn
}

# depends on nothing of the function, which may be given the URL
resource "aws_apigatewayv2_api" "this" {
  name          = var.name
  description   = "HTTP API of ${var.name}"
  protocol_type = "HTTP"

  dynamic "cors_configuration" {
    for_each = var.cors == null ? [] : [var.cors]
    content {
      allow_origins     = cors_configuration.value.origins
      allow_methods     = ["DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT"]
      allow_headers     = ["authorization", "content-type", "idempotency-key"]
      allow_credentials = cors_configuration.value.credentials
      max_age           = cors_configuration.value.max_age_s
    }
  }
}

resource "aws_apigatewayv2_integration" "this" {
  api_id                 = aws_apigatewayv2_api.this.id
  integration_type       = "AWS_PROXY"
  integration_uri        = var.function.invoke_arn
  integration_method     = "POST"
  payload_format_version = "2.0"
  timeout_milliseconds   = 30000
}

resource "aws_apigatewayv2_route" "this" {
  # checkov:skip=CKV_AWS_309: the function itself requires a session or a service token, and sign-in must work without one
  api_id             = aws_apigatewayv2_api.this.id
  route_key          = "$default"
  target             = "integrations/${aws_apigatewayv2_integration.this.id}"
  authorization_type = "NONE"
}

resource "aws_apigatewayv2_stage" "this" {
  api_id      = aws_apigatewayv2_api.this.id
  name        = "$default"
  auto_deploy = true

  default_route_settings {
    throttling_rate_limit  = var.throttle.rate
    throttling_burst_limit = var.throttle.burst
  }

  access_log_settings {
    destination_arn = aws_cloudwatch_log_group.this.arn
    # neither the path, which the function logs without tokens, nor the query string, nor headers: they may contain some
    format = jsonencode({
      time     = "$context.requestTime"
      id       = "$context.requestId"
      ip       = "$context.identity.sourceIp"
      method   = "$context.httpMethod"
      status   = "$context.status"
      bytes    = "$context.responseLength"
      ms       = "$context.responseLatency"
      function = "$context.integrationErrorMessage"
    })
  }
}

resource "aws_lambda_permission" "this" {
  statement_id  = "HttpApi"
  action        = "lambda:InvokeFunction"
  function_name = var.function.name
  qualifier     = var.function.alias
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.this.execution_arn}/*"
}
