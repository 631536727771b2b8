# Empty secrets: the control plane fills those that are empty when it migrates, so that Terraform's state contains no value.

resource "aws_secretsmanager_secret" "this" {
  # checkov:skip=CKV_AWS_149: encrypted with Secrets Manager's own key unless the deployment has one
  # checkov:skip=CKV2_AWS_57: those that can be rotated without interrupting a reader are rotated by the root module
  for_each = var.secrets

  name                    = each.value.name
  description             = each.value.description
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = var.recovery_days
}
