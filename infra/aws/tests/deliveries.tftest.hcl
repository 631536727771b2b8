# Queues: retention, visibility, dead letters, TLS and batch responses.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  package = { directory = "./tests/package" }
  nats    = { existing = { secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:nats-AbCdEf" } }
}

run "visibility" {
  assert {
    condition     = alltrue([for queue, name in module.table.queues : module.queue[queue].visibility_s > local.functions[name].timeout_s])
    error_message = "a message stays hidden for longer than the function that received it may run"
  }
}

run "visibility_of_a_shorter_function" {
  variables {
    functions = { worker = { timeout_s = 100 } }
  }

  assert {
    condition     = module.queue["shared"].visibility_s == 130 && module.queue["data"].visibility_s == 930
    error_message = "a message stays hidden only a little longer than the timeout, so that a killed function is invoked again soon"
  }
}

run "queue" {
  module {
    source = "../modules/aws/queue"
  }

  variables {
    name         = "noetl-shared"
    visibility_s = 930
  }

  assert {
    condition     = aws_sqs_queue.this.visibility_timeout_seconds == 930 && output.visibility_s == 930
    error_message = "a message is hidden for visibility_s"
  }

  assert {
    condition     = aws_sqs_queue.this.message_retention_seconds == 86400 && aws_sqs_queue.dead.message_retention_seconds == 1209600
    error_message = "dead letters are kept for the longest time that SQS allows, invocations for a day"
  }

  assert {
    condition     = jsondecode(aws_sqs_queue.this.redrive_policy) == { deadLetterTargetArn = aws_sqs_queue.dead.arn, maxReceiveCount = 20 }
    error_message = "messages that could not be processed go to the dead-letter queue"
  }

  assert {
    condition     = toset(keys(aws_sqs_queue_policy.this)) == toset(["live", "dead"])
    error_message = "both queues have a policy"
  }

  assert {
    condition = alltrue([
      for policy in values(aws_sqs_queue_policy.this) : jsondecode(policy.policy).Statement[0].Effect == "Deny"
      && jsondecode(policy.policy).Statement[0].Principal == "*"
      && toset(jsondecode(policy.policy).Statement[0].Action) == toset(["sqs:ReceiveMessage", "sqs:SendMessage"])
      && jsondecode(policy.policy).Statement[0].Condition == { Bool = { "aws:SecureTransport" = "false" } }
    ])
    error_message = "the policy refuses every request without TLS, from any principal"
  }
}

run "bucket" {
  module {
    source = "../modules/aws/bucket"
  }

  variables {
    name = "noetl-results"
  }

  assert {
    condition = (
      jsondecode(aws_s3_bucket_policy.this[0].policy).Statement[0].Effect == "Deny"
      && jsondecode(aws_s3_bucket_policy.this[0].policy).Statement[0].Principal == "*"
      && toset(jsondecode(aws_s3_bucket_policy.this[0].policy).Statement[0].Action) == toset(["s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject"])
      && jsondecode(aws_s3_bucket_policy.this[0].policy).Statement[0].Condition == { Bool = { "aws:SecureTransport" = "false" } }
    )
    error_message = "a bucket refuses every request without TLS, from any principal"
  }
}

run "release" {
  module {
    source = "../modules/aws/release"
  }

  variables {
    function = { name = "noetl-reconciler", version = "7" }
    queue    = { arn = "arn:aws:sqs:eu-central-1:123456789012:noetl-reconciler", batch_size = 10 }
  }

  assert {
    condition     = aws_lambda_event_source_mapping.queue[0].function_response_types == toset(["ReportBatchItemFailures"])
    error_message = "only the failed messages of a batch are delivered again"
  }

  assert {
    condition     = aws_lambda_event_source_mapping.queue[0].batch_size == 10
    error_message = "a batch has batch_size messages"
  }
}

run "tls_required_on_aws" {
  assert {
    condition     = local.tls_only
    error_message = "a deployment refuses requests without TLS"
  }
}

run "tls_required_at_https_endpoint" {
  variables {
    endpoint_url = "https://aws.example.org"
  }

  assert {
    condition     = local.tls_only
    error_message = "a deployment at an https endpoint_url refuses requests without TLS"
  }
}

run "tls_not_required_at_http_endpoint" {
  variables {
    endpoint_url = "http://127.0.0.1:4566"
  }

  assert {
    condition     = !local.tls_only
    error_message = "only an emulator without TLS accepts requests without TLS"
  }
}
