output "id" {
  description = "Identifier of the API."
  value       = aws_apigatewayv2_api.this.id
}

output "url" {
  description = "URL of the API."
  value       = aws_apigatewayv2_api.this.api_endpoint
}
