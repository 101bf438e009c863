"""What Alembic runs: the migrations, on the connection that `Database.migrate` made."""

from alembic import context

from sightline.services.database.models import Base

# Without a connection Alembic is writing a new migration's file, which needs none.
connection = context.config.attributes.get("connection")
if connection is not None:
    context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()
