# Queues: retention, visibility, dead letters, TLS and batch responses. Events: who may publish, and what reaches the queue.

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

run "queue_of_a_topic" {
  module {
    source = "../modules/aws/queue"
  }

  variables {
    name         = "noetl-reconciler"
    visibility_s = 90
    topic        = { arn = "arn:aws:sns:eu-central-1:123456789012:noetl-events" }
  }

  assert {
    condition = (
      [for statement in jsondecode(aws_sqs_queue_policy.this["live"].policy).Statement : statement.Sid] == ["DenyInsecureTransport", "SendEvents"]
      && jsondecode(aws_sqs_queue_policy.this["live"].policy).Statement[1].Principal == { Service = "sns.amazonaws.com" }
      && jsondecode(aws_sqs_queue_policy.this["live"].policy).Statement[1].Action == ["sqs:SendMessage"]
      && jsondecode(aws_sqs_queue_policy.this["live"].policy).Statement[1].Condition == { ArnEquals = { "aws:SourceArn" = "arn:aws:sns:eu-central-1:123456789012:noetl-events" } }
    )
    error_message = "this topic alone may send to the queue"
  }

  assert {
    condition     = length(jsondecode(aws_sqs_queue_policy.this["dead"].policy).Statement) == 1
    error_message = "it may not send dead letters"
  }
}

run "queue_of_a_topic_without_tls" {
  module {
    source = "../modules/aws/queue"
  }

  variables {
    name         = "noetl-reconciler"
    visibility_s = 90
    tls_only     = false
    topic        = { arn = "arn:aws:sns:eu-central-1:123456789012:noetl-events" }
  }

  assert {
    condition     = keys(aws_sqs_queue_policy.this) == ["live"] && jsondecode(aws_sqs_queue_policy.this["live"].policy).Statement[*].Sid == ["SendEvents"]
    error_message = "beside an emulator only the topic is in the policy"
  }
}

run "events" {
  variables {
    events = { publishers = ["arn:aws:iam::123456789012:role/uploads"] }
  }

  assert {
    condition     = keys(module.events) == ["reconciler"] && module.events["reconciler"].notifies == ["results/"]
    error_message = "objects written below the prefix of the results start the reconciler"
  }

  assert {
    condition     = module.queue["reconciler"].statements == ["DenyInsecureTransport", "SendEvents"] && module.queue["shared"].statements == ["DenyInsecureTransport"]
    error_message = "the topic may send to the queue of the reconciler and to no other"
  }

  assert {
    condition = { for statement in jsondecode(module.events["reconciler"].policy).Statement : statement.Sid => jsonencode([statement.Principal, try(statement.Condition, null)]) } == {
      Publish = jsonencode([{ AWS = ["arn:aws:iam::123456789012:role/uploads"] }, null])
      PublishResults = jsonencode([{ Service = "s3.amazonaws.com" }, {
        ArnEquals    = { "aws:SourceArn" = local.result_bucket.arn }
        StringEquals = { "aws:SourceAccount" = "123456789012" }
      }])
    }
    error_message = "the result bucket and those that are named may publish"
  }
}

run "what_triggers_listen_to" {
  variables {
    results = { existing = "my-results" }
    events  = { results = false, buckets = ["orders"], queues = ["arn:aws:sqs:eu-central-1:123456789012:orders"] }
  }

  assert {
    condition = { for statement in jsondecode(module.events["reconciler"].policy).Statement : statement.Sid => jsonencode([statement.Principal, statement.Condition]) } == {
      PublishObjects = jsonencode([{ Service = "s3.amazonaws.com" }, {
        ArnEquals    = { "aws:SourceArn" = ["arn:aws:s3:::orders"] }
        StringEquals = { "aws:SourceAccount" = "123456789012" }
      }])
    }
    error_message = "the buckets that are named may publish, as this account's"
  }

  assert {
    condition     = jsonencode({ for name, access in local.access : name => access.polls if length(access.polls) > 0 }) == jsonencode({ reconciler = ["arn:aws:sqs:eu-central-1:123456789012:orders"] })
    error_message = "the reconciler, and no other function, receives from the queues that are named"
  }
}

run "events_of_an_existing_bucket" {
  variables {
    results = { existing = "my-results" }
  }

  assert {
    condition     = module.events["reconciler"].notifies == [] && strcontains(module.events["reconciler"].policy, "arn:aws:s3:::my-results")
    error_message = "the notifications of an existing bucket are its owner's, who is let in"
  }
}

run "no_events_of_results" {
  variables {
    events = { results = false }
  }

  assert {
    condition     = module.events["reconciler"].notifies == [] && module.events["reconciler"].policy == null
    error_message = "nobody may publish unless the input says so"
  }
}

run "events_module" {
  module {
    source = "../modules/aws/events"
  }

  variables {
    name        = "noetl-events"
    queue_arn   = "arn:aws:sqs:eu-central-1:123456789012:noetl-reconciler"
    results     = { bucket = "noetl-results", bucket_arn = "arn:aws:s3:::noetl-results", prefix = "results/", notify = true }
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/mine"
  }

  assert {
    condition     = aws_sns_topic_subscription.queue.protocol == "sqs" && aws_sns_topic_subscription.queue.endpoint == "arn:aws:sqs:eu-central-1:123456789012:noetl-reconciler" && aws_sns_topic_subscription.queue.raw_message_delivery != true
    error_message = "messages reach the queue in an envelope, whatever a publisher writes"
  }

  assert {
    condition     = aws_s3_bucket_notification.results[0].bucket == "noetl-results" && aws_s3_bucket_notification.results[0].topic[0].events == toset(["s3:ObjectCreated:*"]) && aws_sns_topic.this.kms_master_key_id == "arn:aws:kms:eu-central-1:123456789012:key/mine"
    error_message = "each new object is a message, encrypted with the key that is given"
  }
}

run "key_of_events" {
  module {
    source = "../modules/aws/key"
  }

  variables {
    name    = "noetl"
    account = { id = "123456789012", region = "eu-central-1", partition = "aws" }
  }

  assert {
    condition = { for statement in jsondecode(aws_kms_key.this.policy).Statement : statement.Sid => jsonencode([statement.Principal, statement.Condition]) if endswith(statement.Sid, "Events") } == {
      PublishEvents = jsonencode([{ Service = "s3.amazonaws.com" }, { StringEquals = { "aws:SourceAccount" = "123456789012" } }])
      SendEvents    = jsonencode([{ Service = "sns.amazonaws.com" }, { ArnEquals = { "aws:SourceArn" = "arn:aws:sns:eu-central-1:123456789012:noetl-events" } }])
    }
    error_message = "the key lets the account's buckets publish and the deployment's topic send"
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
