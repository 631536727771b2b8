"""What Google documents of its predefined roles, for those that the deployment may grant.

https://cloud.google.com/iam/docs/roles-permissions, without permissions for which the stand-in has nothing to guard.
"""

from __future__ import annotations

from collections.abc import Mapping

PERMISSIONS: Mapping[str, frozenset[str]] = {
    role: frozenset(permissions.split())
    for role, permissions in {
        "roles/run.invoker": "run.routes.invoke",
        "roles/run.viewer": """
            run.operations.get run.operations.list run.revisions.get run.revisions.list run.services.get
            run.services.getIamPolicy run.services.list""",
        "roles/cloudtasks.enqueuer": "cloudtasks.tasks.create cloudtasks.tasks.fullView",
        "roles/cloudtasks.taskDeleter": "cloudtasks.tasks.delete",
        "roles/cloudtasks.taskRunner": "cloudtasks.tasks.fullView cloudtasks.tasks.run",
        "roles/cloudtasks.viewer": """
            cloudtasks.queues.get cloudtasks.queues.list cloudtasks.tasks.fullView cloudtasks.tasks.get
            cloudtasks.tasks.list""",
        "roles/secretmanager.secretAccessor": "secretmanager.versions.access",
        "roles/secretmanager.secretVersionAdder": "secretmanager.versions.add",
        "roles/secretmanager.secretVersionManager": """
            secretmanager.versions.add secretmanager.versions.destroy secretmanager.versions.disable
            secretmanager.versions.enable secretmanager.versions.get secretmanager.versions.list""",
        "roles/secretmanager.viewer": """
            secretmanager.secrets.get secretmanager.secrets.getIamPolicy secretmanager.secrets.list
            secretmanager.versions.get secretmanager.versions.list""",
        "roles/storage.objectViewer": "storage.objects.get storage.objects.list",
        "roles/storage.objectCreator": "storage.objects.create",
        "roles/storage.objectUser": """
            storage.objects.create storage.objects.delete storage.objects.get storage.objects.list
            storage.objects.update""",
        "roles/storage.objectAdmin": """
            storage.objects.create storage.objects.delete storage.objects.get storage.objects.getIamPolicy
            storage.objects.list storage.objects.setIamPolicy storage.objects.update""",
        "roles/storage.bucketViewer": "storage.buckets.get storage.buckets.list",
        "roles/storage.legacyBucketReader": "storage.buckets.get storage.objects.list",
        "roles/storage.legacyBucketWriter": """
            storage.buckets.get storage.objects.create storage.objects.delete storage.objects.list""",
        "roles/storage.legacyBucketOwner": """
            storage.buckets.get storage.buckets.getIamPolicy storage.buckets.setIamPolicy storage.buckets.update
            storage.objects.create storage.objects.delete storage.objects.list""",
        "roles/storage.legacyObjectReader": "storage.objects.get",
        "roles/storage.legacyObjectOwner": """
            storage.objects.get storage.objects.getIamPolicy storage.objects.setIamPolicy storage.objects.update""",
        "roles/pubsub.publisher": "pubsub.topics.publish",
        "roles/pubsub.subscriber": "pubsub.subscriptions.consume pubsub.topics.attachSubscription",
        "roles/pubsub.viewer": """
            pubsub.subscriptions.get pubsub.subscriptions.list pubsub.topics.get pubsub.topics.list""",
        "roles/iam.serviceAccountTokenCreator": """
            iam.serviceAccounts.get iam.serviceAccounts.getAccessToken iam.serviceAccounts.getOpenIdToken
            iam.serviceAccounts.list iam.serviceAccounts.signBlob""",
        "roles/iam.serviceAccountOpenIdTokenCreator": "iam.serviceAccounts.getOpenIdToken",
        "roles/iam.serviceAccountUser": "iam.serviceAccounts.actAs iam.serviceAccounts.get iam.serviceAccounts.list",
        "roles/logging.logWriter": "logging.logEntries.create",
        "roles/artifactregistry.writer": "artifactregistry.repositories.uploadArtifacts",
        "roles/cloudbuild.builds.builder": """
            artifactregistry.repositories.uploadArtifacts logging.logEntries.create storage.buckets.get
            storage.buckets.list storage.objects.create storage.objects.delete storage.objects.get
            storage.objects.list storage.objects.update""",
    }.items()
}
