# One image for all of the project's own services.
FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1
WORKDIR /app

# /data is where a named volume is mounted: a new one takes over this folder's owner.
RUN groupadd --gid 10001 app \
 && useradd --uid 10001 --gid app --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin app \
 && install -d -o app -g app /data

COPY requirements.txt .
RUN pip install --no-cache-dir --disable-pip-version-check -r requirements.txt

COPY docker docker
COPY queuebench queuebench
COPY publisher.py subscriber.py task.py ./
# Readable whatever the umask was that the project was cloned with.
RUN chmod -R a+rX . && python -m compileall -q .

USER app
ENTRYPOINT ["python", "-m", "queuebench"]
