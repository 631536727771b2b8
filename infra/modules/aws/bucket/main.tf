# A private bucket: encrypted, reached over TLS only, with rules that delete what has expired.

resource "aws_s3_bucket" "this" {
  # checkov:skip=CKV_AWS_18: reads and writes of results are in the engine's own event log
  # checkov:skip=CKV_AWS_144: one region; results can be computed again from the playbook and its input
  # checkov:skip=CKV_AWS_145: encrypted with S3's own key unless the deployment has one
  # checkov:skip=CKV_AWS_21: versioned below, unless the deployment turns it off
  # checkov:skip=CKV2_AWS_62: nothing consumes events of this bucket
  bucket        = var.name
  force_destroy = var.force_destroy
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = aws_s3_bucket.this.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    bucket_key_enabled = var.kms_key_arn != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

# versioned unless the deployment turns it off, because the content can be created again
#trivy:ignore:AWS-0090
resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = var.versioned ? "Enabled" : "Suspended"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  # checkov:skip=CKV_AWS_300: the first rule aborts uploads after expiry.upload_days, in the whole bucket
  bucket = aws_s3_bucket.this.id

  rule {
    id     = "abort-and-expire-noncurrent"
    status = "Enabled"

    filter {
      prefix = ""
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = var.expiry.upload_days
    }

    noncurrent_version_expiration {
      noncurrent_days = var.expiry.noncurrent_days
    }
  }

  dynamic "rule" {
    for_each = var.expiry.days == null ? [] : [var.expiry.days]
    content {
      id     = "expire"
      status = "Enabled"

      filter {
        prefix = var.expiry.prefix
      }

      expiration {
        days = rule.value
      }
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_policy" "this" {
  count = var.tls_only ? 1 : 0

  bucket = aws_s3_bucket.this.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "DenyInsecureTransport"
      Effect    = "Deny"
      Principal = "*"
      Action    = ["s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject"]
      Resource  = [aws_s3_bucket.this.arn, "${aws_s3_bucket.this.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  depends_on = [aws_s3_bucket_public_access_block.this]
}
